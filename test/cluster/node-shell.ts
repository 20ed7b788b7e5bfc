/** Where a node of the cluster lies: on the machine, and in the network of the lab. */
export interface NodePlace {
  readonly name: string;
  /** Folder on the machine that holds the files of the node. */
  readonly folder: string;
  /** Control group of the node, relative to the root of every hierarchy, such as `esb-cluster-ab12/node-a`. */
  readonly cgroup: string;
  /** Its address on the bridge of the lab. */
  readonly address: string;
  /** Addresses of its Pods. */
  readonly podCidr: string;
}

/** Folders of a host that are the node's own, so that what runs there finds the usual paths. */
const ownFolders = ['/var/lib', '/var/log', '/opt'] as const;

/**
 * Script that makes a node and then only waits: namespaces of network, mounts, host name and control groups of its own,
 * so that it has a `/run`, `/var/lib`, `/etc` and a tree of control groups that look like those of a machine.
 */
export function nodeScript(place: NodePlace): string {
  return `set -eu
${joinCgroup(place.cgroup)}
exec unshare --net --mount --uts --cgroup --propagation private sh -euc '${insideScript(place)}'
`;
}

/** Makes the group in every hierarchy and moves the shell into it. */
function joinCgroup(cgroup: string): string {
  return `join() {
  mkdir -p "$1/${cgroup}"
  # A new group of processors is empty, and takes nobody then.
  for file in cpuset.cpus cpuset.mems; do
    [ -e "$1/$file" ] || continue
    at="$1"
    for part in $(echo ${cgroup} | tr / " "); do
      [ -n "$(cat "$at/$part/$file")" ] || cat "$at/$file" > "$at/$part/$file" || true
      at="$at/$part"
    done
  done
  echo $$ > "$1/${cgroup}/cgroup.procs"
}
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  join /sys/fs/cgroup
else
  for hierarchy in /sys/fs/cgroup/*; do
    [ ! -d "$hierarchy" ] || join "$hierarchy"
  done
fi`;
}

function insideScript({ name, folder }: NodePlace): string {
  return `mount --make-rshared /
unified=no
[ ! -e /sys/fs/cgroup/cgroup.controllers ] || unified=yes
mount -t sysfs sysfs /sys
if [ $unified = yes ]; then
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mkdir -p /sys/fs/cgroup/system
  echo $$ > /sys/fs/cgroup/system/cgroup.procs
  for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control || true
  done
else
  mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  for line in $(cat /proc/self/cgroup); do
    controllers="\${line#*:}"
    controllers="\${controllers%%:*}"
    case "$controllers" in
      "") point=unified; type=cgroup2; options=rw ;;
      name=*) point="\${controllers#name=}"; type=cgroup; options="none,$controllers" ;;
      *) point="$controllers"; type=cgroup; options="$controllers" ;;
    esac
    mkdir -p "/sys/fs/cgroup/$point"
    mount -t $type -o "$options" cgroup "/sys/fs/cgroup/$point"
    mkdir -p "/sys/fs/cgroup/$point/system"
    for file in cpuset.cpus cpuset.mems; do
      [ ! -e "/sys/fs/cgroup/$point/$file" ] || cat "/sys/fs/cgroup/$point/$file" > "/sys/fs/cgroup/$point/system/$file"
    done
    echo $$ > "/sys/fs/cgroup/$point/system/cgroup.procs"
  done
fi
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lock /run/netns
for own in ${ownFolders.join(' ')}; do
  mkdir -p "${folder}$own" "$own"
  mount --bind "${folder}$own" "$own"
done
mkdir -p ${folder}/etc ${folder}/etc.work
mount -t overlay -o "lowerdir=/etc,upperdir=${folder}/etc,workdir=${folder}/etc.work" overlay /etc
mount --make-rshared /
hostname ${name}
ip link set lo up
echo ready
exec sleep infinity`;
}

/** Words that run a program on the node whose waiting process is `pid`, in the group of the node's own services. */
export function onNode(pid: number): readonly string[] {
  return [
    'nsenter',
    `--target=${pid}`,
    '--net',
    '--mount',
    '--uts',
    '--cgroup',
    '--',
    'sh',
    '-c',
    'for group in /sys/fs/cgroup/system /sys/fs/cgroup/*/system; do [ ! -d "$group" ] || echo $$ > "$group/cgroup.procs"; done; exec "$@"',
    'sh',
  ];
}

/** Script that ends everything in the control group and removes it: a frozen process ends only once it is thawed. */
export function emptyCgroupScript(cgroup: string): string {
  return `for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
  top="$hierarchy/${cgroup}"
  [ -d "$top" ] || continue
  for attempt in $(seq 100); do
    find "$top" -name cgroup.procs | while read -r file; do
      while read -r pid; do [ "$pid" = 0 ] || kill -KILL "$pid"; done < "$file"
    done 2>/dev/null || true
    find "$top" -name freezer.state | while read -r file; do echo THAWED > "$file"; done 2>/dev/null || true
    find "$top" -name cgroup.freeze | while read -r file; do echo 0 > "$file"; done 2>/dev/null || true
    find "$top" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [ -d "$top" ] || break
    sleep 0.1
  done
done`;
}
