"""The sidecar: a byte-transparent relay that counts every call, the spool it writes, and the shipper.

`config` → `routes`, `keys`, `attribution` say who and where; `downstream` ⇄ `exchange` ⇄ `upstream` carry one
call; `journal` → `spool` keep its count; `worker` runs the relay, `supervisor` runs workers and shipper.
"""
