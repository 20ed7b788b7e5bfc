package main

const (
	sysBpf            = 280
	sysProcessVmReadv = 270
	sysSetns          = 268
	sysUserfaultfd    = 282
)
