// A program whose event loop is held for 10 ms of processor time ten times a second, and by nothing else.
const HELD_MICROSECONDS = 10_000;

setInterval(() => {
  const before = process.threadCpuUsage();
  let used = 0;
  while (used < HELD_MICROSECONDS) {
    const { system, user } = process.threadCpuUsage(before);
    used = user + system;
  }
}, 100);
