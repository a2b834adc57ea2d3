"""The UAS core (RFC 3261 sections 8.2, 12.2.2, 13.3): requests of the network, and their answers.

===================  ===============================================================================
``core``             where every request comes in, and finds where it belongs
``transactions``     the tables: what there is, and what may be answered
``new_requests``     outside of dialogs: validation, and whose request it is
``invite``           an INVITE from its arrival to its ACK, as a machine
``early_call``       what it has besides while it rings
``early``            requests of a caller whose INVITE is not finally answered
``cancel``           CANCEL, and what it meets
``in_dialog``        requests in dialogs, and the end of dialogs
``glare``            what crosses, and who has to wait
``responses``        responses of applications, and those of the server itself
``dialog_creation``  the dialog that a 2xx begins
===================  ===============================================================================

Nothing is imported here: what others know of it (:mod:`~drachtwist.server.incoming`) comes without
the rest.
"""
