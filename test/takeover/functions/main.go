// A function that notes each call that it runs in the files of its container.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

type event struct {
	ID    string  `json:"id"`
	Sleep float64 `json:"sleep"`
	Size  int     `json:"size"`
}

type answer struct {
	ID      string `json:"id"`
	Padding string `json:"padding"`
}

func handle(_ context.Context, event event) (answer, error) {
	ran, err := os.OpenFile("/tmp/ran", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return answer{}, err
	}
	defer ran.Close()
	if _, err := fmt.Fprintf(ran, "%s %d\n", event.ID, os.Getpid()); err != nil {
		return answer{}, err
	}
	time.Sleep(time.Duration(event.Sleep * float64(time.Second)))
	return answer{event.ID, strings.Repeat("x", event.Size)}, nil
}

func main() {
	lambda.Start(handle)
}
