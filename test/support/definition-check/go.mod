module esb.dev/test/definition-check

go 1.26.0
