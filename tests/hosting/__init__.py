"""What starts applications and servers as processes."""
