"""The engine: trials are planned, run, resumed, retried and recorded here, whatever the front door."""
