int attend(void){return 0;}
