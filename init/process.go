package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// process is a runtime or an extension.
type process struct {
	pid  int
	name string
	// Extension: a file of /opt/extensions.
	extension bool
}

// exit is how a process ended.
type exit struct {
	pid    int
	status syscall.WaitStatus
}

func (e exit) String() string {
	if e.status.Signaled() {
		return "signal: " + signalName(e.status.Signal())
	}
	return fmt.Sprintf("exit status %d", e.status.ExitStatus())
}

func signalName(signal syscall.Signal) string {
	if signal == syscall.SIGKILL {
		return "killed"
	}
	return signal.String()
}

// reap waits for all children, orphans included, and passes their ends on. Call it at each SIGCHLD.
func reap(ended func(exit)) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		ended(exit{pid, status})
	}
}

// outputs are the pipes between the processes of a worker and its log. Whoever reads the log may stop: a process that
// writes waits then, as it would without the init, and the lines of the init are dropped.
type outputs struct {
	write [2]*os.File
	pipes [2]*pipe
}

type pipe struct {
	read *os.File
	// lines takes what goes to the log, in order.
	lines chan []byte
	busy  sync.Mutex
}

// newOutputs starts to copy what runtime and extensions write to the output of the init.
func newOutputs() (*outputs, error) {
	var o outputs
	for index, to := range []*os.File{os.Stdout, os.Stderr} {
		read, write, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		o.write[index] = write
		p := &pipe{read: read, lines: make(chan []byte, 16)}
		o.pipes[index] = p
		go p.copy()
		go func(to *os.File) {
			for line := range p.lines {
				_, _ = to.Write(line)
			}
		}(to)
	}
	return &o, nil
}

// say puts a line of the init's own into the log.
func (o *outputs) say(format string, values ...any) {
	select {
	case o.pipes[0].lines <- []byte(fmt.Sprintf(format, values...)):
	default:
	}
}

func (p *pipe) copy() {
	buffer := make([]byte, 8<<10)
	for p.wait() {
		p.busy.Lock()
		count, err := p.read.Read(buffer)
		if count > 0 {
			p.lines <- append([]byte(nil), buffer[:count]...)
		}
		p.busy.Unlock()
		if err != nil {
			return
		}
	}
}

// wait returns when there is something to read. The pipe is not taken for busy before.
func (p *pipe) wait() bool {
	raw, err := p.read.SyscallConn()
	if err != nil {
		return false
	}
	return raw.Read(func(fd uintptr) bool { return unread(fd) != 0 }) == nil
}

// unread counts the bytes in a pipe; at its end and where that cannot be told, -1.
func unread(fd uintptr) int {
	var count int32
	const fionread = 0x541b
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, fionread, uintptr(unsafe.Pointer(&count))); errno != 0 {
		return -1
	}
	return int(count)
}

// drain returns when all that was written before is on its way to the log, or at the latest after the time given.
func (o *outputs) drain(atMost time.Duration) {
	until := time.Now().Add(atMost)
	for _, p := range o.pipes {
		raw, err := p.read.SyscallConn()
		if err != nil {
			continue
		}
		for {
			left := 0
			_ = raw.Control(func(fd uintptr) { left = unread(fd) })
			if left <= 0 {
				// What was read last may not be on its way yet.
				if p.busy.TryLock() {
					p.busy.Unlock()
					break
				}
			}
			if time.Now().After(until) {
				return
			}
			time.Sleep(200 * time.Microsecond)
		}
	}
}

// start runs a program in a session of its own.
func (o *outputs) start(argv []string, environment []string) (int, error) {
	program, err := lookPath(argv[0], environment)
	if err != nil {
		return 0, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	return syscall.ForkExec(program, argv, &syscall.ProcAttr{
		Env:   environment,
		Files: []uintptr{null.Fd(), o.write[0].Fd(), o.write[1].Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}

// lookPath finds a program by the PATH of its environment, as execvp does.
func lookPath(name string, environment []string) (string, error) {
	if filepath.Base(name) != name {
		return name, nil
	}
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, entry := range environment {
		if len(entry) > 5 && entry[:5] == "PATH=" {
			path = entry[5:]
		}
	}
	for _, folder := range filepath.SplitList(path) {
		candidate := filepath.Join(folder, name)
		if isExecutable(candidate) {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("exec: %q: executable file not found in $PATH", name)
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}

// extensionsIn lists the programs of a folder by name. A folder that is not there has none.
func extensionsIn(folder string) []string {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	var found []string
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		if isExecutable(path) {
			found = append(found, path)
		}
	}
	sort.Strings(found)
	return found
}
