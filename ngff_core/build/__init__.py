"""The job: planning, a session on the target, the driver, its passes and workers, the report."""
