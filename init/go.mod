module esb.dev/init

go 1.22
