"""The event contract: pydantic classes, the Avro schemas derived and frozen from them, and the codec between both."""
