"""The use case "run a step": which jobs a record makes, whether a job may start, and which events its result makes."""
