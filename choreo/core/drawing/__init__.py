"""Draw a flow without a program of its own: `layout` places boxes in layers, `svg` draws a flow with it.

`asyncapi` describes the flow's log for other tools. Mermaid text is in `choreo.core.diagram`.
"""
