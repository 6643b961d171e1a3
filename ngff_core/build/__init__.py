"""The build of a pyramid: planning, session, driver, passes, workers, report, public API."""
