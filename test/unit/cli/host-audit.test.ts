import { expect, it } from 'vitest';
import { compareHostInventory } from '../../support/host-audit.ts';

it('tells what was left behind and what is gone', () => {
  const before = { 'network interface': ['eth0', 'lo'], process: ['12 containerd'] };
  const after = { 'network interface': ['esb0', 'lo'], process: ['17 etcd'] };
  expect(compareHostInventory(before, after)).toEqual([
    'left behind: network interface esb0',
    'gone: network interface eth0',
    'left behind: process 17 etcd',
  ]);
  expect(compareHostInventory(before, before)).toEqual([]);
});

it('takes no offence at the loss of what a killed run has left', () => {
  const before = { 'network interface': ['esb-node-2', 'lo'], mount: ['/run/netns/esb-node-2'] };
  expect(compareHostInventory(before, { 'network interface': ['lo'], mount: [] })).toEqual([]);
});
