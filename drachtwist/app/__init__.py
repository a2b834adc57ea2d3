"""The application framework: an Srf, and the requests, responses and dialogs that it hands out."""
