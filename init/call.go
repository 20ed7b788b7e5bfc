package main

import (
	"time"
)

// windowBytes bounds what the init holds of an answer that the agent has not acknowledged.
const windowBytes = 64 << 10

// order is what the agent says of a call.
type order struct {
	ID              string `json:"id"`
	Size            int64  `json:"size"`
	DeadlineMs      int64  `json:"deadlineMs"`
	TimeoutMs       int64  `json:"timeoutMs"`
	Version         string `json:"version"`
	FunctionArn     string `json:"functionArn"`
	TraceID         string `json:"traceId,omitempty"`
	ClientContext   string `json:"clientContext,omitempty"`
	CognitoIdentity string `json:"cognitoIdentity,omitempty"`
	TenantID        string `json:"tenantId,omitempty"`
	ContentType     string `json:"contentType,omitempty"`
}

// Stages of a call.
const (
	stageArriving = "Arriving" // Its event is not here yet.
	stageWaiting  = "Waiting"  // No runtime has taken it.
	stageRunning  = "Running"  // A runtime has it.
	stageEnded    = "Ended"    // The outcome is known.
)

// Outcomes of a call.
const (
	outcomeAnswered    = "Answered"
	outcomeError       = "Error"       // The runtime reported an error; its body is the answer.
	outcomeTimeout     = "Timeout"     // The deadline is over.
	outcomeExited      = "Exited"      // The runtime or an extension ended.
	outcomeTooLarge    = "TooLarge"    // The answer is larger than a buffered answer may be.
	outcomeInterrupted = "Interrupted" // The runtime asked for the next call, or broke its answer off.
	outcomeNotStarted  = "NotStarted"  // The worker ends; no runtime has had the call.
)

// outcome says how a call ended.
type outcome struct {
	Kind string `json:"kind"`
	// ErrorType is Lambda's, such as Runtime.ExitError.
	ErrorType string `json:"errorType,omitempty"`
	Message   string `json:"message,omitempty"`
	// Body of an error that a streaming runtime reports after its first byte, in base64.
	ErrorBody string `json:"errorBody,omitempty"`
}

// facts is what the agent is told of a call.
type facts struct {
	ID    string `json:"id"`
	Stage string `json:"stage"`
	// Streaming: the answer goes on as the runtime writes it.
	Streaming   bool   `json:"streaming,omitempty"`
	ContentType string `json:"contentType,omitempty"`
	// Answering: the runtime has begun to answer.
	Answering  bool     `json:"answering,omitempty"`
	Outcome    *outcome `json:"outcome,omitempty"`
	Size       int64    `json:"size,omitempty"`
	DurationMs float64  `json:"durationMs,omitempty"`
}

// call is one call of this worker. The worker's mutex guards it.
type call struct {
	order
	invocation string // Value of Lambda-Runtime-Invocation-Id.
	stage      string
	event      []byte
	started    time.Time
	deadline   *time.Timer
	keep       *time.Timer
	told       facts
	changed    bool // The agent has not been told of the last change.
	introduced bool // The agent has been told of the call; bytes of its answer may follow.

	// Bytes of the answer from base on which the agent has not acknowledged.
	held []byte
	base int64
	sent int64
	// Nobody asks for the answer any more.
	forgotten bool
}

func (c *call) end() int64 { return c.base + int64(len(c.held)) }

// acknowledge drops what the agent has. An offset beyond the end is the agent's mistake and changes nothing more.
func (c *call) acknowledge(offset int64) {
	if offset > c.end() {
		offset = c.end()
	}
	if offset <= c.base {
		return
	}
	rest := c.held[offset-c.base:]
	if len(rest) == 0 {
		c.held = nil
	} else {
		c.held = append([]byte(nil), rest...)
	}
	c.base = offset
	if c.sent < offset {
		c.sent = offset
	}
}
