"""etcd v3: client, feed and store.

Importing this package chooses protobuf's pure-Python mode, here and nowhere else, before etcd3 is imported.
"""

import os

# The messages that etcd3 0.12.0 was generated with are refused by every newer C implementation of protobuf (libraries 5.1).
os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
# gRPC's C core would write its own lines between ours on stderr; every failure reaches us as an error value anyway.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
