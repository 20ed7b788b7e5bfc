package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Frames between the init and the agent: four bytes of length in network order, which count the rest, one byte of kind,
// and the payload. Payloads are JSON but for event and data, which begin with one byte of length and the request id.
const (
	// From the agent.
	frameInvoke = 'I' // A call begins; its event follows in event frames, size bytes in all.
	frameEvent  = 'E' // Bytes of a call's event, in order.
	frameAck    = 'A' // The agent has the answer up to an offset.
	frameForget = 'F' // Nobody asks for a call any more.
	frameStop   = 'S' // End extensions and runtime, then the init.

	// From the init.
	frameHello = 'H' // First frame of a connection. The calls that the init knows follow.
	framePhase = 'P' // The phase or the idleness of the worker has changed.
	frameCall  = 'C' // What is known of a call has changed.
	frameData  = 'D' // Bytes of a call's answer, after eight bytes of offset.
)

// protocolVersion is told in hello. An agent serves the versions that it knows.
const protocolVersion = 1

// maxFrame bounds a frame in bytes, in both directions.
const maxFrame = 256 << 10

var errFrameTooLarge = errors.New("frame is larger than 256 KiB")

func readFrame(from io.Reader, buffer []byte) (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(head[:4])
	if length == 0 || length > maxFrame {
		return 0, nil, errFrameTooLarge
	}
	size := int(length - 1)
	if cap(buffer) < size {
		buffer = make([]byte, size)
	}
	payload = buffer[:size]
	_, err = io.ReadFull(from, payload)
	return head[4], payload, err
}

func writeFrame(to io.Writer, kind byte, parts ...[]byte) error {
	length := 1
	for _, part := range parts {
		length += len(part)
	}
	if length > maxFrame {
		return errFrameTooLarge
	}
	head := make([]byte, 5, length+4)
	binary.BigEndian.PutUint32(head, uint32(length))
	head[4] = kind
	for _, part := range parts {
		head = append(head, part...)
	}
	_, err := to.Write(head)
	return err
}

func writeJSON(to io.Writer, kind byte, value any) error {
	payload, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return writeFrame(to, kind, payload)
}

// splitID takes the request id from the beginning of an event frame.
func splitID(payload []byte) (id string, rest []byte, err error) {
	if len(payload) < 1 || len(payload) < 1+int(payload[0]) {
		return "", nil, fmt.Errorf("frame of %d bytes has no request id", len(payload))
	}
	end := 1 + int(payload[0])
	return string(payload[1:end]), payload[end:], nil
}

// writeData writes a data frame.
func writeData(to io.Writer, id string, offset int64, data []byte) error {
	head := make([]byte, 0, 9+len(id))
	head = append(head, byte(len(id)))
	head = append(head, id...)
	head = binary.BigEndian.AppendUint64(head, uint64(offset))
	return writeFrame(to, frameData, head, data)
}
