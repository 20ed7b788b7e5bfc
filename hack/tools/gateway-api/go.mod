module esb.dev/hack/tools/gateway-api

go 1.26.0

// Only the resource definitions that it carries are used, by a test of the examples.
require sigs.k8s.io/gateway-api v1.6.3 // indirect
