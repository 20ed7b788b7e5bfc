// A function that counts its calls: in its process, and in the files of its container.
package main

import (
	"context"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

type event struct {
	Sleep float64 `json:"sleep"`
}

type answer struct {
	Calls int   `json:"calls"`
	Kept  int64 `json:"kept"`
}

var calls int

func handle(_ context.Context, event event) (answer, error) {
	calls++
	kept, err := os.OpenFile("/tmp/kept", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return answer{}, err
	}
	defer kept.Close()
	if _, err := kept.WriteString("x"); err != nil {
		return answer{}, err
	}
	time.Sleep(time.Duration(event.Sleep * float64(time.Second)))
	about, err := kept.Stat()
	if err != nil {
		return answer{}, err
	}
	return answer{calls, about.Size()}, nil
}

func main() {
	lambda.Start(handle)
}
