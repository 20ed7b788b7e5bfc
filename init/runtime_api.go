package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// maxBuffered is the largest answer in bytes that is not streamed: 6 MiB and what Lambda adds for its envelope.
	maxBuffered = 6<<20 + 100
	// maxStreamed is the largest streamed answer in bytes.
	maxStreamed = 200 << 20
	// maxFault is the largest report of an error in initialization, in bytes.
	maxFault = 64 << 10
	// maxHeader is the most that a request's header may have; X-Ray's cause of an error may have maxErrorHeader.
	maxHeader      = 16 << 10
	maxErrorHeader = 1 << 20
	// bodyPatience bounds the time between two pieces of a body.
	bodyPatience = 60 * time.Second
)

// server is the Runtime API, the Extensions API and the stubs of the Telemetry and Logs API.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
func (w *worker) server() *http.Server {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /2018-06-01/runtime/invocation/next", w.nextCall)
	routes.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", w.respond)
	routes.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", w.reportError)
	routes.HandleFunc("POST /2018-06-01/runtime/init/error", w.reportInitError)
	routes.HandleFunc("POST /2020-01-01/extension/register", w.registerExtension)
	routes.HandleFunc("GET /2020-01-01/extension/event/next", w.nextEvent)
	routes.HandleFunc("POST /2020-01-01/extension/init/error", w.extensionFault("Extension.InitError"))
	routes.HandleFunc("POST /2020-01-01/extension/exit/error", w.extensionFault("Extension.ExitError"))
	for _, path := range []string{"/2020-08-15/logs", "/2022-07-01/telemetry"} {
		routes.HandleFunc("PUT "+path, func(answer http.ResponseWriter, request *http.Request) {
			write(answer, http.StatusAccepted, map[string]string{
				"errorType": "Telemetry.NotSupported", "errorMessage": "Telemetry API is not supported",
			})
		})
	}
	return &http.Server{
		Handler:           bounded(routes),
		MaxHeaderBytes:    maxErrorHeader,
		ReadHeaderTimeout: bodyPatience,
	}
}

// bounded refuses headers that are too large for their path.
func bounded(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		size := 0
		for name, values := range request.Header {
			for _, value := range values {
				size += len(name) + len(value) + 4
			}
		}
		if size > maxHeader && !strings.HasSuffix(request.URL.Path, "/error") {
			refuse(answer, http.StatusRequestHeaderFieldsTooLarge, "RequestHeaderFieldsTooLarge", "the header is larger than 16 KiB")
			return
		}
		handler.ServeHTTP(answer, request)
	})
}

func (w *worker) nextCall(answer http.ResponseWriter, request *http.Request) {
	one := w.next()
	select {
	case c, ok := <-one.got:
		if !ok {
			panic(http.ErrAbortHandler)
		}
		w.deliver(answer, c)
	case <-request.Context().Done():
		w.leave(one)
	case <-w.done:
		panic(http.ErrAbortHandler)
	}
}

func (w *worker) deliver(answer http.ResponseWriter, c *call) {
	header := answer.Header()
	set := func(name, value string) {
		if value != "" {
			header.Set(name, value)
		}
	}
	set("Lambda-Runtime-Aws-Request-Id", c.ID)
	set("Lambda-Runtime-Invocation-Id", c.invocation)
	set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(c.DeadlineMs, 10))
	set("Lambda-Runtime-Invoked-Function-Arn", c.FunctionArn)
	set("Lambda-Runtime-Trace-Id", c.TraceID)
	set("Lambda-Runtime-Client-Context", c.ClientContext)
	set("Lambda-Runtime-Cognito-Identity", c.CognitoIdentity)
	set("Lambda-Runtime-Aws-Tenant-Id", c.TenantID)
	// awslambdaric reads an event of any other type as text.
	header.Set("Content-Type", "application/json")
	set("Content-Type", c.ContentType)
	var event []byte
	w.locked(func() { event = c.event })
	header.Set("Content-Length", strconv.Itoa(len(event)))
	_, err := answer.Write(event)
	if err == nil {
		err = http.NewResponseController(answer).Flush()
	}
	w.locked(func() {
		if err != nil {
			w.returned(c)
			return
		}
		c.event = nil
	})
}

// find returns the call that a runtime may answer now. Otherwise it refuses the request and returns nil.
func (w *worker) find(answer http.ResponseWriter, request *http.Request) *call {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, known := w.calls[request.PathValue("id")]
	told := request.Header.Get("Lambda-Runtime-Invocation-Id")
	switch {
	case !known:
		refuse(answer, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
	case c.stage == stageEnded || (told != "" && told != c.invocation):
		refuse(answer, http.StatusGone, "InvocationEnded", "the call has ended")
	case c.stage != stageRunning || c.told.Answering:
		refuse(answer, http.StatusForbidden, "InvalidStateTransition", "State transition is not allowed")
	default:
		c.told.Answering = true
		return c
	}
	return nil
}

func (w *worker) respond(answer http.ResponseWriter, request *http.Request) {
	c := w.find(answer, request)
	if c == nil {
		return
	}
	streaming := strings.EqualFold(request.Header.Get("Lambda-Runtime-Function-Response-Mode"), "streaming")
	w.locked(func() {
		c.told.Streaming = streaming
		c.told.ContentType = short(request.Header.Get("Content-Type"))
		w.tell(c)
	})
	limit := int64(maxBuffered)
	if streaming {
		limit = maxStreamed
	}
	err := w.copyAnswer(c, answer, request.Body, limit)
	switch {
	case err == nil:
		o := outcome{Kind: outcomeAnswered}
		if errorType := short(request.Trailer.Get("Lambda-Runtime-Function-Error-Type")); errorType != "" {
			o = outcome{Kind: outcomeError, ErrorType: errorType, ErrorBody: bounded64(request.Trailer.Get("Lambda-Runtime-Function-Error-Body"))}
		}
		w.locked(func() { w.settle(c, o) })
		write(answer, http.StatusAccepted, map[string]string{"status": "OK"})
	case errors.Is(err, errTooLarge):
		message := "Response payload size exceeded maximum allowed payload size (" + strconv.FormatInt(limit, 10) + " bytes)."
		w.locked(func() {
			w.settle(c, outcome{Kind: outcomeTooLarge, ErrorType: "Function.ResponseSizeTooLarge", Message: message})
		})
		refuse(answer, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", message)
	case errors.Is(err, errCallEnded):
		refuse(answer, http.StatusGone, "InvocationEnded", "the call has ended")
	default:
		w.locked(func() {
			w.settle(c, outcome{Kind: outcomeInterrupted, ErrorType: "Runtime.TruncatedResponse", Message: "the runtime broke its answer off"})
		})
		panic(http.ErrAbortHandler)
	}
}

func (w *worker) reportError(answer http.ResponseWriter, request *http.Request) {
	c := w.find(answer, request)
	if c == nil {
		return
	}
	errorType := short(request.Header.Get("Lambda-Runtime-Function-Error-Type"))
	w.locked(func() {
		c.told.ContentType = short(request.Header.Get("Content-Type"))
		w.tell(c)
	})
	err := w.copyAnswer(c, answer, request.Body, maxBuffered)
	w.locked(func() {
		w.settle(c, outcome{Kind: outcomeError, ErrorType: errorType})
	})
	if err != nil && !errors.Is(err, errTooLarge) {
		refuse(answer, http.StatusGone, "InvocationEnded", "the call has ended")
		return
	}
	write(answer, http.StatusAccepted, map[string]string{"status": "OK"})
}

func (w *worker) reportInitError(answer http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(answer, request.Body, maxFault))
	if err != nil {
		refuse(answer, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "the report is larger than 64 KiB")
		return
	}
	errorType := short(request.Header.Get("Lambda-Runtime-Function-Error-Type"))
	if errorType == "" {
		errorType = "Runtime.Unknown"
	}
	var parsed struct {
		ErrorMessage string `json:"errorMessage"`
	}
	_ = json.Unmarshal(body, &parsed)
	started := false
	w.locked(func() {
		started = w.phase == phaseReady && w.initMs != 0
		if !started {
			w.failInit(errorType, short(parsed.ErrorMessage), base64.StdEncoding.EncodeToString(body))
		}
	})
	if started {
		refuse(answer, http.StatusForbidden, "InvalidStateTransition", "State transition is not allowed")
		return
	}
	write(answer, http.StatusAccepted, map[string]string{"status": "OK"})
}

var (
	errTooLarge  = errors.New("answer is too large")
	errCallEnded = errors.New("call has ended")
)

// copyAnswer passes a body on as the agent takes it. No more than windowBytes wait here.
func (w *worker) copyAnswer(c *call, answer http.ResponseWriter, body io.Reader, limit int64) error {
	control := http.NewResponseController(answer)
	buffer := make([]byte, 16<<10)
	var total int64
	for {
		_ = control.SetReadDeadline(time.Now().Add(bodyPatience))
		count, err := body.Read(buffer)
		total += int64(count)
		if total > limit {
			return errTooLarge
		}
		if put := w.put(c, buffer[:count]); put != nil {
			return put
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// put adds bytes to an answer, and waits while the window is full.
func (w *worker) put(c *call, data []byte) error {
	for len(data) > 0 {
		w.mu.Lock()
		if c.stage == stageEnded {
			w.mu.Unlock()
			return errCallEnded
		}
		if c.forgotten {
			c.base += int64(len(data))
			c.sent = c.base
			w.mu.Unlock()
			return nil
		}
		room := windowBytes - len(c.held)
		waits := w.room
		if room > 0 {
			count := min(room, len(data))
			c.held = append(c.held, data[:count]...)
			data = data[count:]
			w.changed()
		}
		w.mu.Unlock()
		if room <= 0 {
			<-waits
		}
	}
	return nil
}

// short bounds what goes into a report.
func short(text string) string {
	if len(text) > 1024 {
		return text[:1024]
	}
	return text
}

func bounded64(text string) string {
	if len(text) > 64<<10 {
		return ""
	}
	return text
}

func lookup(environment []string, name string) string {
	for _, entry := range environment {
		if value, found := strings.CutPrefix(entry, name+"="); found {
			return value
		}
	}
	return ""
}

func write(answer http.ResponseWriter, status int, body any) {
	answer.Header().Set("Content-Type", "application/json")
	answer.WriteHeader(status)
	_ = json.NewEncoder(answer).Encode(body)
}

func refuse(answer http.ResponseWriter, status int, errorType, message string) {
	write(answer, status, map[string]string{"errorMessage": message, "errorType": errorType})
}
