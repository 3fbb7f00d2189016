"""Results for people: average precision, benchmarks, comparisons, HTML pages."""
