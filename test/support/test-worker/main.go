// A worker for tests: it answers the emulator's path at once, and misbehaves on demand. Where there is a Runtime API, it
// takes its calls from there.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

type request struct {
	Allocate int    `json:"allocate"` // MiB to write to
	Exit     *int   `json:"exit"`     // code to end with, before answering
	SleepMs  int    `json:"sleepMs"`
	Status   int    `json:"status"` // of the answer, instead of 200
	Print    string `json:"print"`
	Lines    int    `json:"lines"` // numbered lines to write, as fast as it goes
	Hold     string `json:"hold"`  // address of a server that echoes: say something on a connection that is kept from call to call
	Id       string `json:"id"`    // written when the call begins and when it ends, so that executions can be counted
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

var held net.Conn

// Uses the connection that an earlier call has left, or makes one. One that fails is given up, as a pool does it.
func useHeld(address string) string {
	fresh := held == nil
	if fresh {
		made, err := net.DialTimeout("tcp", address, 2*time.Second)
		if err != nil {
			return err.Error()
		}
		held = made
	}
	_ = held.SetDeadline(time.Now().Add(2 * time.Second))
	_, err := held.Write([]byte("ping"))
	if err == nil {
		_, err = io.ReadFull(held, make([]byte, 4))
	}
	if err != nil {
		_ = held.Close()
		held = nil
		return err.Error()
	}
	if fresh {
		return "new"
	}
	return "kept"
}

// Watches the clock until it is told to end, and gives the longest time in milliseconds for which this process did not run.
func watchStalls(end <-chan struct{}) <-chan int64 {
	longest := make(chan int64, 1)
	go func() {
		var most time.Duration
		last := time.Now()
		look := func() {
			now := time.Now()
			most = max(most, now.Sub(last))
			last = now
		}
		for {
			select {
			case <-end:
				look()
				longest <- most.Milliseconds()
				return
			case <-time.After(20 * time.Millisecond):
				look()
			}
		}
	}()
	return longest
}

// Writes lines of 10 to 73 bytes.
func writeLines(count int) {
	filler := strings.Repeat("x", 64)
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	for i := 0; i < count; i++ {
		fmt.Fprintf(out, "%08d %s\n", i, filler[:i%64])
	}
	_ = out.Flush()
}

// The arguments but the name of the runtime that an emulator is given: both are this program.
func arguments() []string {
	given := os.Args[1:]
	for at, each := range given {
		if each == os.Args[0] {
			return append(append([]string{}, given[:at]...), given[at+1:]...)
		}
	}
	return given
}

func serveRuntime(api string, handle http.HandlerFunc) {
	base := "http://" + api + "/2018-06-01/runtime/invocation/"
	for {
		next, err := http.Get(base + "next")
		if err == nil {
			answer := httptest.NewRecorder()
			handle(answer, &http.Request{Body: next.Body})
			_ = next.Body.Close()
			path := base + next.Header.Get("Lambda-Runtime-Aws-Request-Id") + "/response"
			var taken *http.Response
			if taken, err = http.Post(path, "application/json", answer.Body); err == nil {
				_ = taken.Body.Close()
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func main() {
	address := flag.String("runtime-interface-emulator-address", "0.0.0.0:8080", "where to listen")
	flag.String("runtime-api-address", "127.0.0.1:9001", "not used: there is no runtime behind this one")
	_ = flag.CommandLine.Parse(arguments())
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
	boot := strconv.FormatInt(time.Now().UnixNano(), 36)
	handle := func(w http.ResponseWriter, r *http.Request) {
		var wanted request
		body, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(body, &wanted)
		if tried := attempts(body); tried != nil {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"tried": tried})
			return
		}
		if wanted.Id != "" {
			end := make(chan struct{})
			stalls := watchStalls(end)
			fmt.Println("began", wanted.Id)
			defer func() {
				close(end)
				fmt.Println("ended", wanted.Id, <-stalls)
			}()
		}
		if wanted.Print != "" {
			fmt.Println(wanted.Print)
		}
		writeLines(wanted.Lines)
		allocate(wanted.Allocate)
		if wanted.Exit != nil {
			os.Exit(*wanted.Exit)
		}
		time.Sleep(time.Duration(wanted.SleepMs) * time.Millisecond)
		connection := ""
		if wanted.Hold != "" {
			connection = useHeld(wanted.Hold)
		}
		host, _ := os.Hostname()
		environment := map[string]string{}
		for _, name := range []string{"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "_HANDLER", "GREETING"} {
			if value, ok := os.LookupEnv(name); ok {
				environment[name] = value
			}
		}
		w.Header().Set("Content-Type", "application/json")
		if wanted.Status != 0 {
			w.WriteHeader(wanted.Status)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"counter": counter.Add(1), "host": host, "args": arguments(), "env": environment,
			"uid": os.Getuid(), "gid": os.Getgid(), "boot": boot, "id": wanted.Id, "connection": connection,
		})
	}
	if api := os.Getenv("AWS_LAMBDA_RUNTIME_API"); api != "" {
		serveRuntime(api, handle)
	}
	http.HandleFunc("/2015-03-31/functions/function/invocations", handle)
	fmt.Println("listening on", *address)
	if err := http.ListenAndServe(*address, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
