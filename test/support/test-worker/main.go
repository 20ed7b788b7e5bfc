// A worker for tests: it answers the emulator's path at once, and misbehaves on demand.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

type request struct {
	Allocate int    `json:"allocate"` // MiB to write to
	Exit     *int   `json:"exit"`     // code to end with, before answering
	SleepMs  int    `json:"sleepMs"`
	Print    string `json:"print"`
}

func number(name string, otherwise int) int {
	if value, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return value
	}
	return otherwise
}

func allocate(mebibytes int) []byte {
	memory := make([]byte, mebibytes<<20)
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	return memory
}

func main() {
	address := flag.String("runtime-interface-emulator-address", "0.0.0.0:8080", "where to listen")
	flag.Parse()
	if os.Getenv("IGNORE_SIGTERM") != "" {
		signal.Ignore(syscall.SIGTERM)
	} else {
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM)
		go func() {
			<-ended
			fmt.Println("ended by SIGTERM")
			os.Exit(0)
		}()
	}
	if os.Getenv("PRINT_ADDRESSES") != "" {
		addresses, err := net.InterfaceAddrs()
		fmt.Println("addresses:", addresses, err)
	}
	if text := os.Getenv("PRINT"); text != "" {
		fmt.Println(text)
	}
	if code := number("EXIT", -1); code >= 0 {
		os.Exit(code)
	}
	if mebibytes := number("ALLOCATE", 0); mebibytes > 0 {
		allocate(mebibytes)
	}
	time.Sleep(time.Duration(number("LISTEN_AFTER_MS", 0)) * time.Millisecond)
	var counter atomic.Int64
	handle := func(w http.ResponseWriter, r *http.Request) {
		var wanted request
		body, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(body, &wanted)
		if wanted.Print != "" {
			fmt.Println(wanted.Print)
		}
		allocate(wanted.Allocate)
		if wanted.Exit != nil {
			os.Exit(*wanted.Exit)
		}
		time.Sleep(time.Duration(wanted.SleepMs) * time.Millisecond)
		host, _ := os.Hostname()
		environment := map[string]string{}
		for _, name := range []string{"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "_HANDLER", "GREETING"} {
			if value, ok := os.LookupEnv(name); ok {
				environment[name] = value
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"counter": counter.Add(1), "host": host, "args": os.Args[1:], "env": environment,
			"uid": os.Getuid(), "gid": os.Getgid(),
		})
	}
	http.HandleFunc("/2015-03-31/functions/function/invocations", handle)
	fmt.Println("listening on", *address)
	if err := http.ListenAndServe(*address, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
