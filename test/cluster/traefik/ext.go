// Package ext is where Traefik leaves room for other editions. No module proxy has it.
package ext

// HTTP has no fields.
type HTTP struct{}

// Router has no fields.
type Router struct{}
