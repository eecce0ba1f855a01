"""The reference flow: four services, each a file, the flow that composes them, and the outside systems they use."""
