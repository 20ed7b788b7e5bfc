//go:build cgo

package main

// Names are resolved by the C library, as in programs that are not told otherwise.
import _ "net"
