"""A drachtio server for one machine, embedded in a Twisted process.

:class:`~drachtwist.server.service.DrachtioServer` is the service;
:class:`~drachtwist.server.config.ServerConfig` says what it does.
"""
