"""What changes while a run runs: instances switched off and on, clocks, deferral, power caps, failures, schedules."""
