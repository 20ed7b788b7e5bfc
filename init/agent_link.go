package main

import (
	"bufio"
	"encoding/json"
	"net"
	"time"
)

// Pauses between two attempts to reach the agent, which is away while it is replaced.
const (
	firstPause = 10 * time.Millisecond
	lastPause  = 250 * time.Millisecond
)

// serveAgent keeps a connection to the agent. It returns when the worker has ended and the agent has been told.
func (w *worker) serveAgent(socket string) {
	pause := firstPause
	for {
		connection, err := net.Dial("unix", socket)
		if err == nil {
			pause = firstPause
			w.talk(connection)
			w.dropArriving()
		}
		select {
		case <-w.done:
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// talk serves one connection until it ends.
func (w *worker) talk(connection net.Conn) {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		w.listen(connection)
	}()
	defer func() {
		connection.Close()
		<-gone
	}()
	w.locked(func() {
		for _, c := range w.calls {
			c.changed = c.stage != stageArriving
			c.introduced = false
			c.sent = c.base
		}
	})
	out := bufio.NewWriterSize(connection, 4<<10)
	first := true
	for {
		more, err := w.say(out, first)
		first = false
		if err == nil && !more {
			err = out.Flush()
		}
		if err != nil {
			return
		}
		if more {
			continue
		}
		select {
		case <-w.wake:
		case <-gone:
			return
		case <-w.done:
			w.mu.Lock()
			left := w.unsaid()
			w.mu.Unlock()
			if !left {
				return
			}
		}
	}
}

// unsaid says whether there is something that the agent has not been told. Mutex held.
func (w *worker) unsaid() bool {
	if w.report() != w.told {
		return true
	}
	for _, c := range w.calls {
		if c.changed || c.sent < c.end() {
			return true
		}
	}
	return false
}

type saying struct {
	kind   byte
	value  any
	id     string
	offset int64
	data   []byte
}

// say writes what the agent does not know yet; more says whether there may be something left.
func (w *worker) say(out *bufio.Writer, hello bool) (more bool, err error) {
	var sayings []saying
	w.locked(func() {
		report := w.report()
		if hello {
			w.told = report
			report.Version = protocolVersion
			sayings = append(sayings, saying{kind: frameHello, value: report})
		} else if report != w.told {
			w.told = report
			sayings = append(sayings, saying{kind: framePhase, value: report})
		}
		for _, c := range w.calls {
			data := c.held[c.sent-c.base:]
			if c.changed && (len(data) == 0 || !c.introduced || c.told.Outcome == nil) {
				now := c.told
				c.changed = false
				if len(data) > 0 && now.Outcome != nil {
					// The outcome comes after the last byte of the answer.
					now.Outcome = nil
					now.Stage = stageRunning
					c.changed = true
				}
				c.introduced = true
				sayings = append(sayings, saying{kind: frameCall, value: now})
			}
			if len(data) > 0 {
				data = data[:min(len(data), 32<<10)]
				sayings = append(sayings, saying{kind: frameData, id: c.ID, offset: c.sent, data: append([]byte(nil), data...)})
				c.sent += int64(len(data))
				more = true
			}
		}
	})
	for _, one := range sayings {
		if one.kind == frameData {
			err = writeData(out, one.id, one.offset, one.data)
		} else {
			err = writeJSON(out, one.kind, one.value)
		}
		if err != nil {
			return false, err
		}
	}
	return more, nil
}

// listen does what the agent says until the connection ends or the agent breaks the protocol.
func (w *worker) listen(connection net.Conn) {
	in := bufio.NewReaderSize(connection, 4<<10)
	var buffer []byte
	for {
		kind, payload, err := readFrame(in, buffer)
		if err != nil {
			return
		}
		if cap(payload) <= 64<<10 {
			buffer = payload
		}
		if !w.obey(kind, payload) {
			return
		}
	}
}

func (w *worker) obey(kind byte, payload []byte) bool {
	switch kind {
	case frameInvoke:
		var o order
		if json.Unmarshal(payload, &o) != nil {
			return false
		}
		w.take(o)
	case frameEvent:
		id, data, err := splitID(payload)
		if err != nil {
			return false
		}
		w.feed(id, data)
	case frameAck:
		var ack struct {
			ID     string `json:"id"`
			Offset int64  `json:"offset"`
		}
		if json.Unmarshal(payload, &ack) != nil {
			return false
		}
		w.acknowledge(ack.ID, ack.Offset)
	case frameForget:
		var forget struct {
			ID string `json:"id"`
		}
		if json.Unmarshal(payload, &forget) != nil {
			return false
		}
		w.forget(forget.ID)
	case frameStop:
		var stop struct {
			Reason  string `json:"reason"`
			GraceMs int64  `json:"graceMs"`
		}
		if json.Unmarshal(payload, &stop) != nil {
			return false
		}
		w.stop(stop.Reason, time.Duration(stop.GraceMs)*time.Millisecond)
	default:
		// A later agent may say more. What is not known is passed over.
	}
	return true
}
