"""The classes that a user declares as events, and all that is derived from their annotations: the contract, as data.

`event` has the classes. `types` gives each annotation its Avro type, `rules` its bounds, `defaults` its default;
`declaration` makes the schema of them. `sensitive` marks fields that viewers do not see. `exact_text` and `plain`
convert values in and out. Bytes are `choreo.adapters.avro`'s.
"""
