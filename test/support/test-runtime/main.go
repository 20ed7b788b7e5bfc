// The runtime of a function for tests: takes calls from the emulator's Runtime API and writes what they ask for.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

type request struct {
	Print string `json:"print"`   // written as it is, without an end of the line
	Error string `json:"error"`   // written to the other stream
	Lines int    `json:"lines"`   // numbered lines to write
	After string `json:"after"`   // written 200 ms after the answer
	Sleep int    `json:"sleepMs"` // before the answer, between two lines that say when it begins and ends
	Exit  bool   `json:"exit"`
	Told  string `json:"told"` // written in a line of JSON that carries the id of the call
}

func main() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	switch os.Getenv("INIT") {
	case "error":
		fault := `{"errorType":"Function.Broken","errorMessage":"no wand"}`
		report, _ := http.NewRequest("POST", "http://"+os.Getenv("AWS_LAMBDA_RUNTIME_API")+"/2018-06-01/runtime/init/error", strings.NewReader(fault))
		report.Header.Set("Lambda-Runtime-Function-Error-Type", "Function.Broken")
		_, _ = http.DefaultClient.Do(report)
		os.Exit(1)
	case "exit":
		fmt.Println("cannot find my wand")
		os.Exit(3)
	case "slow":
		time.Sleep(4 * time.Second)
	case "hang":
		time.Sleep(time.Hour)
	}
	fmt.Println("the function is loaded")
	// As AWS's clients do.
	calls, _ := strconv.Atoi(os.Getenv("AWS_LAMBDA_MAX_CONCURRENCY"))
	if pollers, err := strconv.Atoi(os.Getenv("POLLERS")); err == nil {
		calls = pollers
	}
	for ; calls > 1; calls-- {
		go serve(api)
	}
	serve(api)
}

func serve(api string) {
	for {
		next, err := http.Get(api + "next")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		body, _ := io.ReadAll(next.Body)
		next.Body.Close()
		var wanted request
		_ = json.Unmarshal(body, &wanted)
		id := next.Header.Get("Lambda-Runtime-Aws-Request-Id")
		fmt.Print(wanted.Print)
		if wanted.Told != "" {
			line, _ := json.Marshal(map[string]string{"requestId": id, "message": wanted.Told})
			fmt.Println(string(line))
		}
		fmt.Fprint(os.Stderr, wanted.Error)
		for i := 0; i < wanted.Lines; i++ {
			fmt.Printf("line %06d of a call\n", i)
		}
		if wanted.Sleep > 0 {
			fmt.Println("began", wanted.Sleep)
			time.Sleep(time.Duration(wanted.Sleep) * time.Millisecond)
			fmt.Println("ended", wanted.Sleep)
		}
		if wanted.Exit {
			os.Exit(3)
		}
		answer, err := http.Post(api+id+"/response", "application/json", bytes.NewReader(body))
		if err == nil {
			answer.Body.Close()
		}
		if wanted.After != "" {
			time.AfterFunc(200*time.Millisecond, func() { fmt.Print(wanted.After) })
		}
	}
}
