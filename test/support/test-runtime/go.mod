module esb.dev/test-runtime

go 1.21
