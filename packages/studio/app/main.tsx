import { render } from 'preact';
import './styles/tokens.css';
import './styles/base.css';
import './styles/parts.css';
import './styles/views.css';
import { App } from './app.js';

render(<App />, document.getElementById('app')!);
