package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"time"
)

// extension is a program of /opt/extensions, or a part of the runtime's process that has registered.
type extension struct {
	id         string
	name       string
	internal   bool
	registered bool
	invoke     bool
	shutdown   bool
	// waits: a request for the next event waits on events.
	waits  bool
	events chan map[string]any
}

// Events that an extension has not asked for yet. A slow one misses later INVOKE events.
const maxExtensionEvents = 64

// Extensions that may register from within the runtime.
const maxInternalExtensions = 10

func newExtension(path string) *extension {
	return &extension{id: token(), name: filepath.Base(path), events: make(chan map[string]any, maxExtensionEvents)}
}

// extensionsWait says whether every extension has registered and waits for its next event. Mutex held.
func (w *worker) extensionsWait() bool {
	for _, e := range w.extensions {
		if !e.registered || !e.waits || len(e.events) > 0 {
			return false
		}
	}
	return true
}

// notifyExtensions has each extension that asked for it told of a call. Mutex held.
func (w *worker) notifyExtensions(c *call) {
	for _, e := range w.extensions {
		if e.invoke {
			e.send(map[string]any{
				"eventType": "INVOKE", "deadlineMs": c.DeadlineMs, "requestId": c.ID, "invokedFunctionArn": c.FunctionArn,
				"tracing": map[string]string{"type": "X-Amzn-Trace-Id", "value": c.TraceID},
			})
		}
	}
}

// shutdownExtensions has extensions told that the worker ends. Mutex held.
func (w *worker) shutdownExtensions(reason string, deadline time.Time) {
	for _, e := range w.extensions {
		if e.shutdown {
			e.send(map[string]any{"eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline.UnixMilli()})
		}
	}
}

func (e *extension) send(event map[string]any) {
	select {
	case e.events <- event:
	default:
	}
}

func (w *worker) registerExtension(answer http.ResponseWriter, request *http.Request) {
	name := request.Header.Get("Lambda-Extension-Name")
	var body struct {
		Events []string `json:"events"`
	}
	if name == "" || len(name) > 128 || json.NewDecoder(http.MaxBytesReader(answer, request.Body, 16<<10)).Decode(&body) != nil {
		refuse(answer, http.StatusForbidden, "Extension.InvalidExtensionName", "the name or the events are missing")
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var found *extension
	internal := 0
	for _, e := range w.extensions {
		if e.name == name {
			found = e
		}
		if e.internal {
			internal++
		}
	}
	if found == nil {
		if w.runtime == 0 || internal >= maxInternalExtensions {
			refuse(answer, http.StatusForbidden, "Extension.InvalidExtensionName", "there is no extension of that name")
			return
		}
		found = newExtension(name)
		found.internal = true
		w.extensions[found.id] = found
	}
	if found.registered {
		refuse(answer, http.StatusForbidden, "Extension.AlreadyRegistered", "the extension has registered before")
		return
	}
	for _, event := range body.Events {
		switch {
		case event == "INVOKE":
			found.invoke = true
		case event == "SHUTDOWN" && !found.internal:
			found.shutdown = true
		default:
			refuse(answer, http.StatusForbidden, "Extension.InvalidEventType", "there is no event "+event+" for this extension")
			return
		}
	}
	found.registered = true
	w.startRuntime()
	answer.Header().Set("Lambda-Extension-Identifier", found.id)
	write(answer, http.StatusOK, map[string]string{
		"functionName": lookup(w.environment, "AWS_LAMBDA_FUNCTION_NAME"), "functionVersion": lookup(w.environment, "AWS_LAMBDA_FUNCTION_VERSION"),
		"handler": lookup(w.environment, "_HANDLER"),
	})
}

func (w *worker) identified(answer http.ResponseWriter, request *http.Request) *extension {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := request.Header.Get("Lambda-Extension-Identifier")
	if e, known := w.extensions[id]; known && e.registered {
		return e
	}
	if id == "" {
		refuse(answer, http.StatusForbidden, "Extension.MissingExtensionIdentifier", "the header Lambda-Extension-Identifier is missing")
	} else {
		refuse(answer, http.StatusForbidden, "Extension.UnknownExtensionIdentifier", "there is no extension of that identifier")
	}
	return nil
}

func (w *worker) nextEvent(answer http.ResponseWriter, request *http.Request) {
	e := w.identified(answer, request)
	if e == nil {
		return
	}
	w.locked(func() {
		e.waits = true
		w.becomeReady()
		w.changed()
	})
	var event map[string]any
	select {
	case event = <-e.events:
	case <-request.Context().Done():
	case <-w.done:
	}
	w.locked(func() {
		e.waits = false
		w.changed()
	})
	if event == nil {
		panic(http.ErrAbortHandler)
	}
	write(answer, http.StatusOK, event)
}

// extensionFault ends the worker, as an extension that reports a fatal error asks for.
func (w *worker) extensionFault(errorType string) http.HandlerFunc {
	return func(answer http.ResponseWriter, request *http.Request) {
		e := w.identified(answer, request)
		if e == nil {
			return
		}
		told := request.Header.Get("Lambda-Extension-Function-Error-Type")
		if told == "" {
			refuse(answer, http.StatusForbidden, "MissingHeader", "the header Lambda-Extension-Function-Error-Type is missing")
			return
		}
		write(answer, http.StatusAccepted, map[string]string{"status": "OK"})
		w.locked(func() {
			if w.phase == phaseStarting {
				w.failInit(errorType, "extension "+e.name+": "+told, "")
				return
			}
			w.endRunning(outcome{Kind: outcomeExited, ErrorType: errorType, Message: "extension " + e.name + ": " + told})
			w.restart()
		})
	}
}
