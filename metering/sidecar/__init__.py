"""The sidecar: a byte-transparent relay that counts every call, the spool it writes, and the shipper.

`relay` carries calls and tells the truth about each to the `spool`; `ship` brings the spool to the ledger.
`worker` runs one relay, `supervisor` the workers and the shipper; `config` and `keys` say who and where.
"""
