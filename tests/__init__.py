from hypothesis import settings

settings.register_profile("drachtwist", database=None, deadline=None, print_blob=True)
settings.load_profile("drachtwist")
