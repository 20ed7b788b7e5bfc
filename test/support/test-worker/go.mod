module esb.dev/test-worker

go 1.21
