"""The demo: its phone, and what it does when it does not go as planned."""
