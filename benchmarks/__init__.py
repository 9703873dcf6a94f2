"""What cerebelum_nb costs, as ratios to a floor measured beside it. ``python -m benchmarks`` runs them."""
