import { render } from 'preact';

render(<h1>rldf studio</h1>, document.getElementById('app')!);
