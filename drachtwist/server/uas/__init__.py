"""The UAS core (RFC 3261 sections 8.2, 12.2.2, 13.3): requests of the network, and their answers.

=========================================  =======================================================
:mod:`~drachtwist.server.uas.core`         where every request comes in, and finds where it belongs
:mod:`~drachtwist.server.uas.transactions` the tables: what there is, and what may be answered
:mod:`~drachtwist.server.uas.new_requests` outside of dialogs: validation, and whose request it is
:mod:`~drachtwist.server.uas.invite`       an INVITE from its arrival to its ACK, as a machine
:mod:`~drachtwist.server.uas.early_call`   what it has besides while it rings
:mod:`~drachtwist.server.uas.early`        requests of a caller whose INVITE is not finally answered
:mod:`~drachtwist.server.uas.cancel`       CANCEL, and what it meets
:mod:`~drachtwist.server.uas.in_dialog`    requests in dialogs, and the end of dialogs
:mod:`~drachtwist.server.uas.glare`        what crosses, and who has to wait
:mod:`~drachtwist.server.uas.responses`    responses of applications, and our own
:mod:`~drachtwist.server.uas.dialog_creation`  the dialog that a 2xx begins
=========================================  =======================================================

Nothing is imported here: the parts that the UAC and the proxy core know come without the rest.
"""
