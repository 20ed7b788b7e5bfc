// The init is process 1 of a worker. It starts extensions and the runtime, speaks Lambda's Runtime API to them on the
// loopback of the container, and takes calls from the agent over a unix socket. Runtime and calls outlive the agent.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

func main() {
	socket := flag.String("socket", "", "unix socket of the agent")
	address := flag.String("address", "127.0.0.1:9001", "address of the Runtime API")
	extensions := flag.String("extensions", "/opt/extensions", "folder of extensions")
	concurrency := flag.Int("concurrency", 1, "calls at once")
	initTimeout := flag.Duration("init-timeout", time.Minute, "most time for initialization")
	grace := flag.Duration("grace", 2*time.Second, "time between SIGTERM and SIGKILL")
	keep := flag.Duration("keep-answers", time.Minute, "time for which the answer of an ended call is kept")
	flag.Parse()
	if os.Getpid() != 1 {
		fail("not process 1 of a container: a restart of the runtime kills every process")
	}
	if *socket == "" || flag.NArg() == 0 {
		fail("usage: init --socket PATH [FLAG...] -- PROGRAM [ARGUMENT...]")
	}
	// A worker is paid for by its memory, and the init's work is small.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(25)

	listener, err := net.Listen("tcp", *address)
	if err != nil {
		fail("the Runtime API cannot listen on %s: %v", *address, err)
	}
	outputs, err := newOutputs()
	if err != nil {
		fail("pipes for the output: %v", err)
	}
	w := newWorker(config{
		argv:        flag.Args(),
		environment: append(os.Environ(), "AWS_LAMBDA_RUNTIME_API="+*address),
		concurrency: max(*concurrency, 1),
		initTimeout: *initTimeout,
		keepAnswers: *keep,
		extensions:  *extensions,
	}, outputs)

	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		for one := range signals {
			if one == syscall.SIGCHLD {
				reap(w.ended)
			} else {
				w.stop("spindown", *grace)
			}
		}
	}()
	go func() {
		_ = w.server().Serve(&boundedListener{Listener: listener, places: make(chan struct{}, 16+4*w.concurrency)})
	}()
	told := make(chan struct{})
	go func() {
		defer close(told)
		w.serveAgent(*socket)
	}()
	w.boot()
	<-w.done
	select {
	case <-told:
	case <-time.After(time.Second):
	}
	os.Exit(w.exitCode)
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "init: "+format+"\n", values...)
	os.Exit(125)
}

// boundedListener takes no more connections than it has places.
type boundedListener struct {
	net.Listener
	places chan struct{}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	l.places <- struct{}{}
	connection, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &boundedConnection{Conn: connection, places: l.places}, nil
}

type boundedConnection struct {
	net.Conn
	places chan struct{}
	closed bool
}

func (c *boundedConnection) Close() error {
	if !c.closed {
		c.closed = true
		<-c.places
	}
	return c.Conn.Close()
}
