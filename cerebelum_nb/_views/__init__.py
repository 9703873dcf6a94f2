"""What people look at while a workflow runs and after: graph, card, progress, slider, approval form."""
