"""Statistics: functions from arrays with a replica axis to numbers with their intervals."""
