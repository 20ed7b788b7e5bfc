package main

const (
	sysBpf            = 321
	sysProcessVmReadv = 310
	sysSetns          = 308
	sysUserfaultfd    = 323
)
