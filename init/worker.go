package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// Phases of a worker.
const (
	phaseStarting = "Starting" // Extensions and runtime initialize.
	phaseReady    = "Ready"
	phaseFailed   = "Failed" // The first initialization failed; the init ends once the agent knows.
	phaseStopping = "Stopping"
)

// initFault says why a worker did not become ready, in Lambda's words.
type initFault struct {
	ErrorType string `json:"errorType"`
	Message   string `json:"message"`
	// Body that the runtime reported, where it did, in base64.
	Body string `json:"body,omitempty"`
}

// phaseReport is what the agent is told of the worker.
type phaseReport struct {
	Version int    `json:"version,omitempty"`
	Phase   string `json:"phase"`
	// Idle: the runtime and all extensions wait for the next call, and none is under way. A worker may be frozen then.
	Idle   bool       `json:"idle"`
	InitMs float64    `json:"initMs,omitempty"`
	Fault  *initFault `json:"fault,omitempty"`
	// Restarts of the runtime in this container.
	Restarts int `json:"restarts"`
}

type config struct {
	argv        []string
	environment []string
	concurrency int
	initTimeout time.Duration
	keepAnswers time.Duration
	extensions  string
}

// waiter is a request for the next call that waits.
type waiter struct {
	// got has the call, or is closed when another request takes this one's place.
	got chan *call
}

// worker is the state of everything in the container. The mutex guards all fields below it.
type worker struct {
	config
	outputs *outputs
	// wake tells the link to the agent that something has changed.
	wake chan struct{}
	// done is closed when the init is to end.
	done chan struct{}

	mu         sync.Mutex
	phase      string
	fault      *initFault
	began      time.Time
	initMs     float64
	restarts   int
	reset      bool // All processes are being killed; the runtime starts again once they have ended.
	processes  map[int]*process
	runtime    int // 0: none.
	extensions map[string]*extension
	waiters    []*waiter
	waiting    []*call // Calls that no runtime has taken, in order.
	calls      map[string]*call
	initTimer  *time.Timer
	told       phaseReport
	exitCode   int
	room       chan struct{} // Closed and replaced when an answer has room again or a call has ended.
}

func newWorker(c config, o *outputs) *worker {
	return &worker{
		config:     c,
		outputs:    o,
		wake:       make(chan struct{}, 1),
		done:       make(chan struct{}),
		phase:      phaseStarting,
		processes:  map[int]*process{},
		extensions: map[string]*extension{},
		calls:      map[string]*call{},
		room:       make(chan struct{}),
	}
}

func (w *worker) locked(act func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	act()
}

// changed wakes the link. Call it with the mutex held.
func (w *worker) changed() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// broadcast lets every answer that waits for room look again. Call it with the mutex held.
func (w *worker) broadcast() {
	close(w.room)
	w.room = make(chan struct{})
}

// boot starts extensions, and the runtime once they have registered.
func (w *worker) boot() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = time.Now()
	if w.initTimer != nil {
		w.initTimer.Stop()
	}
	w.initTimer = time.AfterFunc(w.initTimeout, w.initOverdue)
	for _, path := range extensionsIn(w.config.extensions) {
		pid, err := w.outputs.start([]string{path}, w.environment)
		if err != nil {
			w.failInit("Extension.LaunchError", fmt.Sprintf("%s: %v", path, err), "")
			return
		}
		e := newExtension(path)
		w.processes[pid] = &process{pid: pid, name: path, extension: true}
		w.extensions[e.id] = e
	}
	w.startRuntime()
}

// startRuntime starts the runtime when nothing holds it up. Call it with the mutex held.
func (w *worker) startRuntime() {
	if w.runtime != 0 || w.reset || (w.phase != phaseStarting && w.phase != phaseReady) {
		return
	}
	for _, e := range w.extensions {
		if !e.registered {
			return
		}
	}
	pid, err := w.outputs.start(w.argv, w.environment)
	if err != nil {
		w.failInit("Runtime.InvalidEntrypoint", err.Error(), "")
		return
	}
	w.runtime = pid
	w.processes[pid] = &process{pid: pid, name: w.argv[0]}
}

func (w *worker) initOverdue() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == phaseStarting || w.runtimeStarts() {
		w.failInit("Sandbox.Timedout", fmt.Sprintf("Init did not end within %.0f seconds", w.initTimeout.Seconds()), "")
	}
}

// runtimeStarts says whether a runtime that follows another one has not asked for a call yet. Mutex held.
func (w *worker) runtimeStarts() bool { return w.phase == phaseReady && w.initMs == 0 }

// failInit ends a worker whose initialization failed. The init ends when the agent knows, or after a second. Mutex held.
func (w *worker) failInit(errorType, message, body string) {
	if w.phase == phaseFailed || w.phase == phaseStopping {
		return
	}
	w.phase = phaseFailed
	w.fault = &initFault{ErrorType: errorType, Message: message, Body: body}
	w.endAll(outcome{Kind: outcomeNotStarted, ErrorType: errorType, Message: message})
	w.exitCode = 1
	w.changed()
	time.AfterFunc(time.Second, w.finish)
}

// finish ends the init. All processes of the container end with it.
func (w *worker) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.done:
	default:
		close(w.done)
	}
}

// ended is told of each process that has ended.
func (w *worker) ended(e exit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	known, ok := w.processes[e.pid]
	if !ok {
		return
	}
	delete(w.processes, e.pid)
	if e.pid == w.runtime {
		w.runtime = 0
		w.forsake()
	}
	if w.phase == phaseStopping {
		if len(w.processes) == 0 {
			go w.finish()
		}
		return
	}
	if w.reset {
		w.rise()
		return
	}
	errorType, message := "Runtime.ExitError", "Runtime exited with error: "+e.String()
	if known.extension {
		errorType, message = "Extension.Crash", fmt.Sprintf("extension %s exited with error: %s", known.name, e.String())
	} else if e.status.Exited() && e.status.ExitStatus() == 0 {
		message = "Runtime exited without providing a reason"
	}
	if w.phase == phaseStarting || w.runtimeStarts() {
		w.failInit(errorType, message, "")
		return
	}
	w.endRunning(outcome{Kind: outcomeExited, ErrorType: errorType, Message: message})
	w.restart()
}

// forsake ends requests for the next call of a runtime that is no more. Mutex held.
func (w *worker) forsake() {
	for _, one := range w.waiters {
		close(one.got)
	}
	w.waiters = nil
}

// restart kills all processes, and starts extensions and runtime again. Container, network and files stay. Mutex held.
func (w *worker) restart() {
	if w.reset || w.phase != phaseReady {
		return
	}
	w.reset = true
	w.initMs = 0
	w.restarts++
	w.forsake()
	// Process 1 is not among them.
	_ = syscall.Kill(-1, syscall.SIGKILL)
	w.changed()
	w.rise()
}

// rise starts again once all processes have ended. Mutex held.
func (w *worker) rise() {
	if len(w.processes) > 0 {
		return
	}
	w.reset = false
	w.extensions = map[string]*extension{}
	go w.boot()
}

// take adds a call. A call with a known id is not run again.
func (w *worker) take(o order) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.calls[o.ID]; known || o.ID == "" || len(o.ID) > 255 || o.Size < 0 || o.Size > maxBuffered {
		return
	}
	c := &call{order: o, stage: stageArriving, invocation: token()}
	c.told = facts{ID: o.ID, Stage: stageArriving}
	w.calls[o.ID] = c
	c.deadline = time.AfterFunc(time.Until(time.UnixMilli(o.DeadlineMs)), func() { w.overdue(c) })
	w.arrive(c, nil)
}

// feed adds bytes to the event of a call.
func (w *worker) feed(id string, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c, known := w.calls[id]; known && c.stage == stageArriving {
		w.arrive(c, data)
	}
}

func (w *worker) arrive(c *call, data []byte) {
	c.event = append(c.event, data...)
	if int64(len(c.event)) < c.Size {
		return
	}
	if w.phase == phaseFailed || w.phase == phaseStopping {
		w.settle(c, outcome{Kind: outcomeNotStarted, Message: "the worker is ending"})
		return
	}
	c.event = c.event[:c.Size]
	c.stage = stageWaiting
	w.waiting = append(w.waiting, c)
	w.hand()
}

// dropArriving forgets calls whose event has not arrived in whole when the agent goes away. No runtime has had them.
func (w *worker) dropArriving() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, c := range w.calls {
		if c.stage == stageArriving {
			c.deadline.Stop()
			delete(w.calls, id)
		}
	}
}

// tell has the agent told of a call, and of the worker. Mutex held.
func (w *worker) tell(c *call) {
	c.told.Stage = c.stage
	c.changed = true
	w.changed()
}

// hand gives waiting calls to waiting runtimes. Mutex held.
func (w *worker) hand() {
	for len(w.waiting) > 0 && len(w.waiters) > 0 {
		c, one := w.waiting[0], w.waiters[0]
		w.waiting, w.waiters = w.waiting[1:], w.waiters[1:]
		c.stage = stageRunning
		c.started = time.Now()
		w.outputs.say("START RequestId: %s Version: %s\n", c.ID, c.Version)
		w.notifyExtensions(c)
		w.tell(c)
		one.got <- c
	}
}

// returned takes a call back that did not reach the runtime: its request for the next call was gone. Mutex held.
func (w *worker) returned(c *call) {
	if c.stage == stageRunning {
		c.stage = stageWaiting
		w.waiting = append([]*call{c}, w.waiting...)
		w.tell(c)
		w.hand()
	}
}

// next registers a request for the next call.
func (w *worker) next() *waiter {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := &waiter{got: make(chan *call, 1)}
	if w.phase == phaseFailed || w.phase == phaseStopping || w.reset {
		close(one.got)
		return one
	}
	if w.concurrency == 1 {
		w.forsake()
		if w.running() > 0 {
			w.endRunning(outcome{Kind: outcomeInterrupted, ErrorType: "Runtime.InvalidStateTransition",
				Message: "the runtime asked for the next call without an answer to the one before"})
			close(one.got)
			w.restart()
			return one
		}
	}
	w.waiters = append(w.waiters, one)
	if w.initMs == 0 {
		w.initMs = float64(time.Since(w.began).Microseconds()) / 1000
	}
	w.becomeReady()
	w.hand()
	w.changed()
	return one
}

// leave takes a request for the next call back whose connection has ended.
func (w *worker) leave(one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for index, other := range w.waiters {
		if other == one {
			w.waiters = append(w.waiters[:index], w.waiters[index+1:]...)
			w.changed()
			return
		}
	}
	select {
	case c, ok := <-one.got:
		if ok {
			w.returned(c)
		}
	default:
	}
}

// becomeReady ends the initialization when runtime and extensions wait. Mutex held.
func (w *worker) becomeReady() {
	if w.initMs == 0 || !w.extensionsWait() {
		return
	}
	w.initTimer.Stop()
	if w.phase == phaseStarting {
		w.phase = phaseReady
	}
	w.changed()
}

// running counts the calls that a runtime has. Mutex held.
func (w *worker) running() int {
	count := 0
	for _, c := range w.calls {
		if c.stage == stageRunning {
			count++
		}
	}
	return count
}

// idle says whether the worker may be frozen. Mutex held.
func (w *worker) idle() bool {
	return w.phase == phaseReady && !w.reset && len(w.waiters) > 0 && len(w.waiting) == 0 && w.running() == 0 && w.extensionsWait()
}

// overdue ends a call whose deadline is over, and with one call for each worker its runtime too.
func (w *worker) overdue(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.stage == stageEnded {
		return
	}
	hadRuntime := c.stage == stageRunning
	w.settle(c, outcome{Kind: outcomeTimeout, ErrorType: "Sandbox.Timedout",
		Message: fmt.Sprintf("Task timed out after %.2f seconds", float64(c.TimeoutMs)/1000)})
	if hadRuntime && w.concurrency == 1 {
		w.restart()
	}
}

// endRunning ends all calls that a runtime has. Mutex held.
func (w *worker) endRunning(o outcome) {
	for _, c := range w.calls {
		if c.stage == stageRunning {
			w.settle(c, o)
		}
	}
}

// endAll ends all calls; those that no runtime has had are told as not started. Mutex held.
func (w *worker) endAll(o outcome) {
	for _, c := range w.calls {
		switch c.stage {
		case stageRunning:
			w.settle(c, outcome{Kind: outcomeExited, ErrorType: "Runtime.ExitError", Message: o.Message})
		case stageArriving, stageWaiting:
			w.settle(c, outcome{Kind: outcomeNotStarted, ErrorType: o.ErrorType, Message: o.Message})
		}
	}
}

// settle gives a call its outcome. Mutex held.
func (w *worker) settle(c *call, o outcome) {
	if c.stage == stageEnded {
		return
	}
	started := c.stage == stageRunning
	c.stage = stageEnded
	c.event = nil
	c.deadline.Stop()
	for index, other := range w.waiting {
		if other == c {
			w.waiting = append(w.waiting[:index], w.waiting[index+1:]...)
			break
		}
	}
	c.told.Outcome = &o
	c.told.Size = c.end()
	if started {
		elapsed := time.Since(c.started)
		c.told.DurationMs = float64(elapsed.Microseconds()) / 1000
		w.outputs.drain(50 * time.Millisecond)
		time.AfterFunc(time.Until(time.UnixMilli(c.DeadlineMs)), w.lingering)
		w.outputs.say("END RequestId: %s\nREPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %d ms\n",
			c.ID, c.ID, c.told.DurationMs, (elapsed+time.Millisecond-1)/time.Millisecond)
	}
	w.broadcast()
	if c.forgotten {
		delete(w.calls, c.ID)
		return
	}
	c.keep = time.AfterFunc(w.keepAnswers, func() { w.forget(c.ID) })
	w.tell(c)
}

// lingering ends a runtime or an extension that does not ask for the next call though the deadline of its last is over.
func (w *worker) lingering() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != phaseReady || w.runtimeStarts() || w.running() > 0 || (len(w.waiters) > 0 && w.extensionsWait()) {
		return
	}
	w.restart()
}

// acknowledge is told by the agent how much of an answer it has.
func (w *worker) acknowledge(id string, offset int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c, known := w.calls[id]; known {
		c.acknowledge(offset)
		w.broadcast()
	}
}

// forget drops a call. One that a runtime has goes on, and its answer is thrown away.
func (w *worker) forget(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, known := w.calls[id]
	if !known {
		return
	}
	c.forgotten = true
	c.acknowledge(c.end())
	switch c.stage {
	case stageArriving, stageWaiting:
		w.settle(c, outcome{Kind: outcomeNotStarted, Message: "the call was withdrawn"})
		fallthrough
	case stageEnded:
		c.keep.Stop()
		delete(w.calls, id)
	}
	w.broadcast()
	w.changed()
}

// stop ends extensions and runtime: SHUTDOWN and SIGTERM first, SIGKILL after the grace.
func (w *worker) stop(reason string, grace time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == phaseStopping {
		return
	}
	w.phase = phaseStopping
	w.shutdownExtensions(reason, time.Now().Add(grace))
	if w.runtime != 0 {
		_ = syscall.Kill(w.runtime, syscall.SIGTERM)
	}
	w.changed()
	if len(w.processes) == 0 {
		go w.finish()
		return
	}
	time.AfterFunc(grace, func() {
		_ = syscall.Kill(-1, syscall.SIGKILL)
		time.AfterFunc(time.Second, w.finish)
	})
}

// report is what the agent is told of the worker now. Mutex held.
func (w *worker) report() phaseReport {
	return phaseReport{Phase: w.phase, Idle: w.idle(), InitMs: w.initMs, Fault: w.fault, Restarts: w.restarts}
}

func token() string {
	var bytes [16]byte
	_, _ = rand.Read(bytes[:])
	return hex.EncodeToString(bytes[:])
}
