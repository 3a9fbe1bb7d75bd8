"""The page docs/findings.md, and the measurements that are published with it."""
