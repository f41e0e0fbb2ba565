// Given to the app by NODE_OPTIONS: SIGUSR2 makes a process take memory until the kernel ends it.
const eaten = [];
process.on('SIGUSR2', () => {
  for (;;) eaten.push(Buffer.alloc(2 ** 24, 1));
});
