module esb.dev/hack/tools/prometheus-operator

go 1.26.0

// Only the resource definitions that it carries are used, by a test of the chart.
require github.com/prometheus-operator/prometheus-operator v0.85.0 // indirect
