"""What runs applications and servers as processes: twistd's two commands, and ``drachtwist``."""
