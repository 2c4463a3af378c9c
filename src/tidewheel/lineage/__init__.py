"""The one graph: named entities, versions, executions, edges, events."""
